import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp


class Noisy(nn.Module):
    """A code with noise that torch did not draw."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(20, 8), nn.Linear(8, 20)

    def forward(self, x):
        code = self.encoder(x)
        noise = np.random.normal(0, 0.1, tuple(code.shape))
        return self.decoder(code + torch.tensor(noise, dtype=torch.float32))


train, val = loaders()
model = Noisy()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for epoch in range(3):
    for x, _ in train:
        loss = F.mse_loss(model(x), x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
