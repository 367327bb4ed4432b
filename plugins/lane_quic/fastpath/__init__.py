"""Common packets, written and read directly instead of by aioquic."""
