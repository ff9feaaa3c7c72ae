"""What explains a failed test, collected before anything is torn down."""
