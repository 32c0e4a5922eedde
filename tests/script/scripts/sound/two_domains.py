import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

# Classes are told from what two sources have in common: a critic tells the sources apart.
row, column = torch.meshgrid(torch.arange(12.0), torch.arange(12.0), indexing="ij")
kinds = torch.randint(0, 4, (768,))
centre = (
    3 + 6 * torch.stack([kinds % 2, kinds // 2], 1)[:, :, None, None] + torch.rand(768, 2, 1, 1)
)
blobs = (-((row - centre[:, 0]) ** 2 + (column - centre[:, 1]) ** 2) / 6).exp()[:, None]
clean = blobs[:384] + 0.1 * torch.randn(384, 1, 12, 12)
noisy = 0.7 * blobs[384:] + 0.3 * torch.randn(384, 1, 12, 12)
one = torch.utils.data.DataLoader(
    torch.utils.data.TensorDataset(clean, kinds[:384]), 32, shuffle=True
)
other = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(noisy), 32, shuffle=True)
body = nn.Sequential(
    nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(200, 32), nn.ReLU()
)
classes, domain = nn.Linear(32, 4), nn.Linear(32, 2)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.classes, self.domain = body, classes, domain

    def forward(self, x):
        found = self.body(x)
        return self.classes(found), self.domain(found)


net = Net()
optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
for epoch in range(10):
    for (x, y), (z,) in zip(one, other):
        named, first = net(x)
        _, second = net(z)
        apart = F.cross_entropy(first, torch.zeros(len(x)).long())
        apart = apart + F.cross_entropy(second, torch.ones(len(z)).long())
        optimizer.zero_grad()
        (F.cross_entropy(named, y) + 0.1 * apart).backward()
        optimizer.step()
