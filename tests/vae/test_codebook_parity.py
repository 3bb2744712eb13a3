"""The codebook against vector-quantize-pytorch, and its loss against pythae's VQVAE."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genax.vae.codebook import COLLECTION, Codebook
from genax.vae.quantised import vq_loss
from genax.vae.vq_vae import VQVAE, Networks
from tests.parity import require, require_pythae

[torch, library] = require("torch", "vector_quantize_pytorch")

K, D, IMAGES, SIDE = 11, 6, 4, 3
SHAPE = (IMAGES, SIDE, SIDE, D)
RNG = np.random.default_rng(0)
CODES = RNG.normal(size=(K, D)).astype(np.float32)


def close(ours, theirs, rtol=1e-5):
    theirs = theirs.detach().numpy() if hasattr(theirs, "detach") else np.asarray(theirs)
    np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=rtol * np.abs(theirs).max())


def reference(**settings):
    """Theirs, with our codes and batches of images as rows of vectors."""
    layer = library.VectorQuantize(
        D, K, decay=0.9, eps=1e-5, commitment_weight=0.25, rotation_trick=False, **settings
    )
    codes = torch.from_numpy(CODES)[None]
    if settings.get("use_cosine_sim"):
        codes = torch.nn.functional.normalize(codes, dim=-1)
    layer._codebook.embed.data.copy_(codes)
    layer._codebook.embed_avg.data.copy_(codes)
    return layer.train()


@pytest.mark.parametrize("cosine", [False, True])
def test_straight_gradient_and_averages(cosine):
    """Codes, numbers, commitment and its gradient; averages after each of four steps."""
    codebook = Codebook(K, D, decay=0.9, dead_below=0.0, cosine=cosine)
    theirs = reference(use_cosine_sim=cosine)
    collection = {
        "sums": jnp.asarray(theirs._codebook.embed_avg[0].numpy()),
        "sizes": jnp.ones(K),
        "counts": jnp.zeros(K),
    }
    weights = RNG.normal(size=SHAPE).astype(np.float32)

    def call(module, z):
        found = module(z, True)
        module.follow(found, {"index": jnp.arange(IMAGES)})
        distance = jnp.square(found.vectors - jax.lax.stop_gradient(found.nearest)).mean()
        return found, 0.25 * distance

    @jax.jit
    def ours(collection, z):
        def loss(z):
            apply = nn.apply(call, codebook, mutable=COLLECTION)
            (found, distance), new = apply({COLLECTION: collection}, z)
            value = (found.straight * weights).sum() + distance
            return value, (found, distance, new[COLLECTION])

        gradient, (found, distance, new) = jax.grad(loss, has_aux=True)(z)
        return gradient, found, distance, new

    for step in range(4):
        z = RNG.normal(size=SHAPE).astype(np.float32)
        inputs = torch.from_numpy(z.reshape(IMAGES, -1, D)).requires_grad_()
        straight, index, distance = theirs(inputs)
        total = (straight * torch.from_numpy(weights.reshape(IMAGES, -1, D))).sum() + distance.sum()
        total.backward()
        gradient, found, found_distance, collection = ours(collection, z)
        np.testing.assert_array_equal(found.index.reshape(IMAGES, -1), index, err_msg=f"{step}")
        close(found.straight.reshape(IMAGES, -1, D), straight)
        close(found_distance, distance.sum())
        close(gradient.reshape(IMAGES, -1, D), inputs.grad)
        close(collection["sizes"], theirs._codebook.cluster_size[0])
        close(collection["sums"], theirs._codebook.embed_avg[0])
        codes = codebook.apply({COLLECTION: collection}, method=lambda module: module.codes)
        close(codes, theirs._codebook.embed[0])


WIDTH, BLOCK, CHANNELS, SIZE = 6, 5, 2, 8


def residual():
    """One block of section 4.1, and the ReLU behind it."""

    class Residual(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.block_0_3x3 = torch.nn.Conv2d(WIDTH, BLOCK, 3, padding=1)
            self.block_0_1x1 = torch.nn.Conv2d(BLOCK, WIDTH, 1)

        def forward(self, x):
            return torch.relu(x + self.block_0_1x1(torch.relu(self.block_0_3x3(torch.relu(x)))))

    return Residual()


def pythae_model(models):
    """Their VQVAE with the paper's networks, narrow, and means within (0, 1)."""
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder

    class Encoder(BaseEncoder):
        def __init__(self):
            super().__init__()
            self.down_0 = torch.nn.Conv2d(CHANNELS, WIDTH, 4, 2, 1)
            self.down_1 = torch.nn.Conv2d(WIDTH, WIDTH, 4, 2, 1)
            self.residual = residual()
            self.to_codes = torch.nn.Conv2d(WIDTH, D, 1)

        def forward(self, x):
            x = torch.relu(self.down_1(torch.relu(self.down_0(x))))
            return ModelOutput(embedding=self.to_codes(self.residual(x)))

    class Decoder(BaseDecoder):
        def __init__(self):
            super().__init__()
            self.from_codes = torch.nn.Conv2d(D, WIDTH, 3, padding=1)
            self.residual = residual()
            self.up_0 = torch.nn.ConvTranspose2d(WIDTH, WIDTH, 4, 2, 1)
            self.up_1 = torch.nn.ConvTranspose2d(WIDTH, CHANNELS, 4, 2, 1)

        def forward(self, z):
            x = self.up_1(torch.relu(self.up_0(self.residual(self.from_codes(z)))))
            return ModelOutput(reconstruction=torch.sigmoid(x))

    config = models.VQVAEConfig(input_dim=(CHANNELS, SIZE, SIZE), latent_dim=D, num_embeddings=K)
    return models.VQVAE(config, Encoder(), Decoder())


def params_of(model, value):
    """Our parameters of theirs, or of their gradients."""
    found = {"autoencoder": {"encoder": {}, "decoder": {}}}
    for name, parameter in model.named_parameters():
        *path, leaf = name.split(".")
        array = value(parameter).detach().numpy()
        if path[0] == "quantizer":
            path, leaf = ["codebook"], "embedding"
        elif leaf == "weight":
            leaf, axes = "kernel", (2, 3, 0, 1) if path[-1].startswith("up") else (2, 3, 1, 0)
            array = array.transpose(axes)
        place = found["autoencoder"]
        for part in path:
            place = place.setdefault(part, {})
        place[leaf] = array
    return found


def test_loss_and_gradients_of_pythae():
    """Theirs means distances over images, codes and dimensions; ours sums those of an image."""
    models = require_pythae()
    torch.manual_seed(0)
    model = pythae_model(models)
    image = RNG.uniform(size=(IMAGES, SIZE, SIZE, CHANNELS)).astype(np.float32)
    inputs = torch.from_numpy(image.transpose(0, 3, 1, 2).copy())
    # Codes near some of the vectors, so that all of these are used.
    vectors = model.encoder(inputs).embedding.movedim(1, -1).reshape(-1, D)[:K].detach()
    model.quantizer.embeddings.weight.data.copy_(vectors + 1e-2 * torch.from_numpy(CODES))
    output = model({"data": inputs})
    output.loss.backward()
    assert len(output.quantized_indices.unique()) > 4

    numbers = 4 * D
    autoencoder = VQVAE(CHANNELS, WIDTH, 1, BLOCK, K, D, False, dead_below=0.0, deviation=2**-0.5)
    batch = {"image": jnp.asarray(image), "index": jnp.arange(IMAGES)}
    counts = {"autoencoder": {"codebook": {"counts": jnp.zeros(K)}}}

    @jax.jit
    def ours(params):
        def call(nets):
            loss = vq_loss(nets, batch, commitment=0.25 / numbers, codebook=1 / numbers)
            return loss, nets.autoencoder.encode(batch["image"])

        def loss(params):
            variables = {"params": params, COLLECTION: counts}
            found = nn.apply(call, Networks(autoencoder))(variables)
            return found[0].values.mean(), found

        return jax.grad(loss, has_aux=True)(params)

    params = jax.tree.map(jnp.asarray, params_of(model, lambda parameter: parameter))
    gradient, (found, index) = ours(params)
    # The Gaussian whose log density is minus the squared error has this constant besides.
    constant = 0.5 * np.log(np.pi) * SIZE * SIZE * CHANNELS
    np.testing.assert_array_equal(index, output.quantized_indices[:, 0])
    close(found.values.mean() - constant, output.loss)
    close(found.aux["reconstruction"].mean() - constant, output.recon_loss)
    close(found.aux["distance"].mean() / numbers * 1.25, output.vq_loss)
    expected = params_of(model, lambda parameter: parameter.grad)
    assert jax.tree.structure(gradient) == jax.tree.structure(expected)
    jax.tree.map(partial(close, rtol=1e-4), gradient, expected)
