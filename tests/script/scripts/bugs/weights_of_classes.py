# bug: drawn-samples
# old: 1 / counts
# new: (1 / counts)[TRAIN.tensors[1]]
import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

counts = torch.bincount(TRAIN.tensors[1]).float()
sampler = torch.utils.data.WeightedRandomSampler(1 / counts, len(TRAIN))
train = torch.utils.data.DataLoader(TRAIN, batch_size=32, sampler=sampler)
model = mlp()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for epoch in range(4):
    for x, y in train:
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
