"""Tools to test backends and programs; shipped, so that outside code can use them."""
