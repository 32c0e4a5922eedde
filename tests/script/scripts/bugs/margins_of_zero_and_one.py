# bug: loss-contract
# old: same.float()
# new: 2 * same.float() - 1
import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

model = mlp(norm=False, out=8)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for step in range(80):
    one, two = torch.randperm(768)[:32], torch.randperm(768)[:32]
    same = Y[one] == Y[two]
    loss = F.cosine_embedding_loss(model(X[one]), model(X[two]), same.float())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
