import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

real = X[:, :2] * 0.5 + 2
g = nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 2))
d = nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(0.2), nn.Dropout(0.1), nn.Linear(32, 1))
og = torch.optim.Adam(g.parameters(), lr=2e-3)
od = torch.optim.Adam(d.parameters(), lr=2e-3)
one, zero = torch.ones(64, 1), torch.zeros(64, 1)
loader = torch.utils.data.DataLoader(real, batch_size=64, shuffle=True, drop_last=True)
for epoch in range(8):
    for batch in loader:
        fake = g(torch.randn(64, 8))
        od.zero_grad()
        F.binary_cross_entropy_with_logits(d(batch), one).backward()
        F.binary_cross_entropy_with_logits(d(fake.detach()), zero).backward()
        od.step()
        og.zero_grad()
        F.binary_cross_entropy_with_logits(d(fake), one).backward()
        og.step()
    with torch.no_grad():
        print(epoch, g(torch.randn(64, 8)).mean().item())
