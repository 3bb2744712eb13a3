"""RefineNet in PyTorch, as functions of the parameters that genax has."""

from __future__ import annotations


class Reference:
    """The network of Song & Ermon 2019, appendix A; images are NCHW."""

    def __init__(self, torch, params, level):
        """Hold the parameters by path, arrays as tensors, and the noise level of each example."""
        self.torch, self.functional = torch, torch.nn.functional
        self.params, self.level = params, level

    def __call__(self, x):
        y = self.conv("conv_in", x)
        stages = []
        for number, dilation in enumerate((1, 1, 2, 4)):
            y = self.residual(f"stage_{number}_residual_0", y, dilation, number > 0, number == 1)
            y = self.residual(f"stage_{number}_residual_1", y, dilation, False, False)
            stages.append(y)
        y = self.refine("refine_3", [stages[3]], 1)
        y = self.refine("refine_2", [stages[2], y], 1)
        y = self.refine("refine_1", [stages[1], y], 1)
        y = self.refine("refine_0", [stages[0], y], 3)
        return self.conv("conv_out", self.functional.elu(self.norm("norm_out", y)))

    def conv(self, name, x, dilation=1):
        weight = self.params[f"{name}/kernel"].permute(3, 2, 0, 1)
        padding = dilation * (weight.shape[-1] // 2)
        bias = self.params.get(f"{name}/bias")
        return self.functional.conv2d(x, weight, bias, padding=padding, dilation=dilation)

    def norm(self, name, x):
        gamma, alpha, beta = (
            self.params[f"{name}/{part}"][self.level][:, :, None, None]
            for part in ("scale", "mean_scale", "bias")
        )
        means = x.mean((2, 3))
        centred = means - means.mean(1, keepdim=True)
        relative = centred / self.torch.sqrt(means.var(1, keepdim=True) + 1e-5)
        y = self.functional.instance_norm(x) + alpha * relative[:, :, None, None]
        return gamma * y + beta

    def residual(self, name, x, dilation, reduce, pool):
        y = self.functional.elu(self.norm(f"{name}/norm_0", x))
        y = self.conv(f"{name}/conv_0", y, dilation)
        y = self.functional.elu(self.norm(f"{name}/norm_1", y))
        y = self.conv(f"{name}/conv_1", y, dilation)
        if reduce:
            x = self.conv(f"{name}/shortcut", x, dilation)
        if pool:
            x, y = self.functional.avg_pool2d(x, 2), self.functional.avg_pool2d(y, 2)
        return x + y

    def refine(self, name, inputs, output_blocks):
        ys = [self.chain(f"{name}/adapt_{i}", x, 2) for i, x in enumerate(inputs)]
        y = ys[0]
        if len(ys) > 1:
            size = y.shape[2:]
            parts = [f"{name}/fuse_{i}" for i in range(2)]
            ys = [
                self.conv(f"{part}_conv", self.norm(f"{part}_norm", y))
                for part, y in zip(parts, ys, strict=True)
            ]
            stretch = self.functional.interpolate
            y = sum(stretch(y, size=size, mode="bilinear", align_corners=True) for y in ys)
        y = path = self.functional.elu(y)
        for i in range(2):
            path = self.norm(f"{name}/pool_{i}_norm", path)
            path = self.functional.avg_pool2d(path, 5, stride=1, padding=2)
            path = self.conv(f"{name}/pool_{i}_conv", path)
            y = y + path
        return self.chain(f"{name}/output", y, output_blocks)

    def chain(self, name, x, count):
        for block in range(count):
            y = x
            for i in range(2):
                y = self.functional.elu(self.norm(f"{name}_{block}_{i}_norm", y))
                y = self.conv(f"{name}_{block}_{i}_conv", y)
            x = x + y
        return x
