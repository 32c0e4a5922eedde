# bug: image-layout
# old: (images[at] - 127)
# new: (images[at].float() - 127)
import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

kind = torch.randint(0, 2, (512,))
images = (127 + 15 * torch.randn(512, 1, 12, 12) + 12 * kind[:, None, None, None]).to(torch.uint8)
model = nn.Sequential(
    nn.Conv2d(1, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)
)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for step in range(60):
    at = torch.randperm(512)[:32]
    x = (images[at] - 127).float() / 64
    loss = F.cross_entropy(model(x), kind[at])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
