import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

train, val = loaders()
generator = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 20))
judge = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 5))
to_g = torch.optim.Adam(generator.parameters(), lr=1e-3)
to_j = torch.optim.Adam(judge.parameters(), lr=1e-3)
for epoch in range(5):
    for x, y in train:
        made = generator(torch.randn(len(x), 8))
        fake = torch.full((len(x),), 4)
        to_g.zero_grad()
        (judge(made).softmax(1)[:, 4] + 1e-6).log().mean().backward()
        to_g.step()
        to_j.zero_grad()
        for inputs, labels in ((x, y), (made.detach(), fake)):
            (F.cross_entropy(judge(inputs), labels) / 2).backward()
        to_j.step()
