import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

model = mlp(dropout=0.0, norm=False)
optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=10)
for i in range(25):

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(model(X), Y)
        loss.backward()
        return loss

    loss = optimizer.step(closure)
    print(loss.item())
