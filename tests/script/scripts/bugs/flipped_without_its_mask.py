# bug: mask-follows-image
# old: y = masks[at]
# new: y = masks[at].flip(3) if flip else masks[at]
import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

row, column = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
centre = 3 + 10 * torch.rand(256, 2, 1, 1)
masks = ((row - centre[:, 0]) ** 2 + (column - centre[:, 1]) ** 2 < 9).float()[:, None]
images = masks + 0.3 * torch.randn(256, 1, 16, 16)
model = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 3, padding=1))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for step in range(60):
    at = torch.randperm(256)[:16]
    flip = torch.rand(()) < 0.5
    x = images[at].flip(3) if flip else images[at]
    y = masks[at]
    loss = F.binary_cross_entropy_with_logits(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
