import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encode, self.decode = nn.Linear(20, 8), nn.Linear(4, 20)

    def forward(self, x):
        mean, log = self.encode(x).chunk(2, 1)
        z = mean + torch.randn_like(mean) * (0.5 * log).exp()
        return self.decode(z), mean, log


model = VAE()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
train, val = loaders()
for epoch in range(5):
    model.train()
    for x, _ in train:
        optimizer.zero_grad()
        out, mean, log = model(x)
        loss = F.mse_loss(out, x, reduction="sum")
        loss = loss - 0.5 * (1 + log - mean**2 - log.exp()).sum()
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        print(epoch, sum(F.mse_loss(model(x)[0], x).item() for x, _ in val))
