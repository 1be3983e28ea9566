"""Frames that stay on a CUDA device from the upload of their planes to the download of those that are written.

    seeing      planes → R′G′B′ at the network's size → its answer (and the answer mended, where it has no memory)
    composing   answer → alpha at full size, the subject's own colours, composition → planes, rounded
    step        the two as one piece of work that waits for nothing, with the network's memory
    lane        that as a CUDA graph; copies beside it
    stage       frames in, frames out; cuts are told on the CPU from some rows of luma, so that nothing comes back early

A composite in 4:2:0 and 8 bits with `realtime`, counted operation by operation as if no cache helped:

                                                       1920 × 1080      3840 × 2160
    up, and down, each                                     3.1 MB          12.4 MB
      at 55 of PCIe 5's 63 GB/s                           0.06 ms          0.23 ms
    conversions and composition, 136 kernels               485 MB          1645 MB
      the network's picture, as matrix products           2.9 GFLOP        9.4 GFLOP
    network at 512 × 288, 146 kernels                      198 MB           198 MB
    floor of the bytes at 4.8 TB/s                        0.14 ms          0.38 ms
    floor of 282 kernels in a graph at 1.5 µs each        0.42 ms          0.42 ms
    copies into pinned memory on the host, 8 GB/s         0.39 ms          1.55 ms

These are counts and data sheets; no speed was measured. Elementwise kernels are not fused: the floors allow it, and
torch.compile would need Triton and a C compiler, and more time to start than most clips take.

Networks that need a background plate keep to the CPU's `Renderer` (`suits`), as do all devices but CUDA.
"""

from __future__ import annotations

from mattecli.inference.on_device.stage import AHEAD, OnDevice, suits

__all__ = ["AHEAD", "OnDevice", "suits"]
