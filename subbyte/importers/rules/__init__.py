"""What operators become, whoever calls them: rules that take arguments by their names in ATen's schema."""
