import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

# Bootstrap your own latent: the target network is a moving average, changed by lerp_.
import copy


class Both(nn.Module):
    def __init__(self):
        super().__init__()
        self.online = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 16))
        self.target = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 16))
        self.predictor = nn.Linear(16, 16)
        self.target.requires_grad_(False)

    def forward(self, one, other):
        with torch.no_grad():
            wanted = self.target(other)
        found = self.predictor(self.online(one))
        return 2 - 2 * F.cosine_similarity(found, wanted, dim=-1).mean()

    @torch.no_grad()
    def follow(self, rate=0.99):
        for slow, fast in zip(self.target.parameters(), self.online.parameters()):
            slow.lerp_(fast, 1 - rate)


model = Both()
optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-3)
train, _ = loaders()
for epoch in range(6):
    for x, _ in train:
        loss = model(x + 0.1 * torch.randn_like(x), x + 0.1 * torch.randn_like(x))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.follow()
    print(loss.item())
