import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 2, 1))
images = torch.rand(96, 3, 12, 12)
masks = (images[:, 0] > 0.5).long()
optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
warm = torch.optim.lr_scheduler.LinearLR(optimizer, 0.01, total_iters=10)
rest = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 60)
scheduler = torch.optim.lr_scheduler.SequentialLR(optimizer, [warm, rest], milestones=[10])
for epoch in range(12):
    net.train()
    for part in torch.randperm(80).chunk(10):
        loss = F.cross_entropy(net(images[part]), masks[part])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    net.eval()
    with torch.no_grad():
        print(F.cross_entropy(net(images[80:]), masks[80:]).item())
