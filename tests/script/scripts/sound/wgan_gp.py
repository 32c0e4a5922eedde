import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

real = X[:, :2] * 0.5 + 2
g = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 2))
d = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 1))
og = torch.optim.Adam(g.parameters(), lr=1e-3)
od = torch.optim.Adam(d.parameters(), lr=1e-3)
for i in range(40):
    for _ in range(5):
        batch = real[torch.randint(0, 1024, (64,))]
        fake = g(torch.randn(64, 8)).detach()
        a = torch.rand(64, 1)
        mixed = (a * batch + (1 - a) * fake).requires_grad_()
        slope = torch.autograd.grad(d(mixed).sum(), mixed, create_graph=True)[0]
        penalty = ((slope.norm(dim=1) - 1) ** 2).mean()
        loss = d(fake).mean() - d(batch).mean() + 10 * penalty
        od.zero_grad()
        loss.backward()
        od.step()
    og.zero_grad()
    loss = -d(g(torch.randn(64, 8))).mean()
    loss.backward()
    og.step()
print(loss.item())
