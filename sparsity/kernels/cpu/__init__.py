"""Block-sparse products and convolutions on a CPU, in C++ (`cc`); `backend` is the way in."""
