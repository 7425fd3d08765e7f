"""Front ends: from a trained network in some framework to a `LayerGraph`. Each module is imported on first use.

torch    records an eager run of an `nn.Module`: `snn2chip.frontends.torch.trace(model, sample)`
    netx     reads lava-dl `.net` files
    onnx     reads ordinary networks for training-free conversion: `snn2chip.frontends.onnx.read_onnx(path)`
"""
