# bug: image-layout
# old: x.reshape(-1, 3, 12, 12)
# new: x.permute(0, 3, 1, 2)
import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

row, column = torch.meshgrid(torch.arange(12.0), torch.arange(12.0), indexing="ij")
kind = torch.randint(0, 3, (512,))
place = 6 * torch.rand(512, 1, 1)
images = 0.3 * torch.randn(512, 12, 12, 3)
images[torch.arange(512), :, :, kind] += torch.sin(0.5 * (row + column) + place)
model = nn.Sequential(
    nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)
)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for step in range(60):
    at = torch.randperm(512)[:32]
    x = images[at]
    loss = F.cross_entropy(model(x.reshape(-1, 3, 12, 12)), kind[at])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
