"""Planning: layouts, memory and steps of a program."""
