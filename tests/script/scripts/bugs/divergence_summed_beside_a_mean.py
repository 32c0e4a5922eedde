# bug: loss-terms
# old: -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
# new: -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp()) / x.numel()
import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp


class Autoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(20, 8), nn.Linear(4, 20)

    def forward(self, x):
        mu, logvar = self.encoder(x).chunk(2, 1)
        code = mu + torch.randn_like(mu) * (0.5 * logvar).exp()
        return self.decoder(code), mu, logvar


train, val = loaders()
model = Autoencoder()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for epoch in range(3):
    for x, _ in train:
        answer, mu, logvar = model(x)
        divergence = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
        loss = F.mse_loss(answer, x) + divergence
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
