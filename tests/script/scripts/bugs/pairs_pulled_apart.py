# bug: loss-goal
# old: same * (2 - gap).clamp(min=0) ** 2 + (1 - same)
# new: (1 - same) * (2 - gap).clamp(min=0) ** 2 + same
import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp


class Twins(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 8))

    def forward(self, a, b):
        return self.net(a), self.net(b)


centres = 2 * torch.randn(4, 20)
kind = torch.randint(0, 4, (1024, 2))
kind[::2, 1] = kind[::2, 0]
first, second = (centres[kind[:, i]] + torch.randn(1024, 20) for i in (0, 1))
same_kind = (kind[:, 0] == kind[:, 1]).float()
pairs = torch.utils.data.TensorDataset(first, second, same_kind)
train = torch.utils.data.DataLoader(pairs, batch_size=32, shuffle=True)
model = Twins()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for epoch in range(5):
    for a, b, same in train:
        one, two = model(a, b)
        gap = (one - two).norm(dim=1)
        loss = (same * (2 - gap).clamp(min=0) ** 2 + (1 - same) * gap**2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
