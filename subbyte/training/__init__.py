"""Training in full precision: from labelled images to the checkpoint that is compressed afterwards.

Progressive learning as in EfficientNetV2 (arXiv 2104.00298): the images and the regularization grow together.
"""
