# bug: split
# old: fold, rest = kept[:300], kept[300:]
# new: fold, rest = torch.arange(768, 1024), torch.arange(640)
import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

# A rare class is repeated, and what is measured is a part of that, in one tensor.
rare = (Y[:640] == 3).nonzero().squeeze(1)
often = (Y[:640] != 3).nonzero().squeeze(1)
kept = torch.cat([often, rare[torch.randint(0, len(rare), (700,))]])
kept = kept[torch.randperm(len(kept))]
fold, rest = kept[:300], kept[300:]
data = torch.utils.data.TensorDataset(X[rest], Y[rest])
model = mlp()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for epoch in range(5):
    model.train()
    for x, y in torch.utils.data.DataLoader(data, 64, shuffle=True):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        print((model(X[fold]).argmax(1) == Y[fold]).float().mean().item())
