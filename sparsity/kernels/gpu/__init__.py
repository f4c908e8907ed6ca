"""Block-sparse products and convolutions on Hopper GPUs, by Pallas' Mosaic kernels; `backend` is the way in."""
