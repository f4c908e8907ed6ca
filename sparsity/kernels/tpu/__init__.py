"""Block-sparse products and convolutions on TPUs, by Pallas kernels; `backend` is the way in."""
