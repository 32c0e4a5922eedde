# bug: overwritten-weights
# old: model.apply(draw)\ntrain
# new: train
import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp


def draw(part):
    if isinstance(part, nn.Linear):
        nn.init.xavier_uniform_(part.weight)
        nn.init.zeros_(part.bias)


saved = mlp().state_dict()
model = mlp()
model.load_state_dict(saved)
model.apply(draw)
train, val = loaders()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(3):
    model.train()
    for x, y in train:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    print(epoch, accuracy(model, val))
