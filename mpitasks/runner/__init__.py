"""What runs user code, in a rank and in its children: the script as it was sent."""
