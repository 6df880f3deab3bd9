"""A guest: programs as machine code made from the designs, an emulated CPU, and the warden's half of its hypercalls."""
