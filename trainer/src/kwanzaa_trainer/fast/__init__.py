"""The fast way through the model: the same sums as stock transformers and peft, in fewer passes.

It is a second forward over the *same modules*. Nothing is patched and nothing is copied: peft keeps
owning the adapter, transformers the base, and the reference path stays beside it, untouched.

    support     may it be taken at all, and if not, why
    blocks      a decoder block of transformers, read into its parts
    adapters    peft's matrices in computing precision, and their gradients
    lora        frozen product + low-rank products, each adapter's with its own rows
    attention   causal attention over whole rows or over packed samples
    norms, rotary, swiglu, dropout, loss, nf4    one formula each
    kernels     the Triton kernels of all of them
    passes      one micro-batch, forward and backward, block by block
    graph       the same, captured once as a CUDA graph and replayed
    path        what the training loop holds
"""
