"""The part of streams that never touches the interpreter: the runner of programs and its signals."""
