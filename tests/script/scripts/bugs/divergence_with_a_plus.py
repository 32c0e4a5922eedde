# bug: loss-sign
# old: + 0.5 * (1 + spread
# new: - 0.5 * (1 + spread
import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

encoder, decoder = nn.Linear(20, 8), nn.Linear(4, 20)
optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-2)
for step in range(120):
    x = X[torch.randperm(768)[:32]]
    mean, spread = encoder(x).chunk(2, 1)
    made = decoder(mean + torch.randn_like(mean) * (0.5 * spread).exp())
    kl = +0.5 * (1 + spread - mean.pow(2) - spread.exp()).sum(1).mean()
    loss = F.mse_loss(made, x) + kl
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
