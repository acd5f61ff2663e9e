"""Rules of one signature for operators of ONNX, with the names of arguments that ATen gives them."""
