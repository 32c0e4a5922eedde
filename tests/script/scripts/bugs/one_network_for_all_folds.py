# bug: folds-apart
# old: print("the network of the fold before")
# new: model = mlp(norm=False); optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

from torch.utils.data import DataLoader, SubsetRandomSampler

model = mlp(norm=False)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for fold in range(4):
    tested = [i for i in range(768) if i % 4 == fold]
    others = [i for i in range(768) if i % 4 != fold]
    train = DataLoader(TRAIN, 32, sampler=SubsetRandomSampler(others))
    test = DataLoader(TRAIN, 32, sampler=SubsetRandomSampler(tested))
    print("the network of the fold before")
    for epoch in range(3):
        model.train()
        for x, y in train:
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    print(fold, accuracy(model, test))
