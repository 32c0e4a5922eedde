import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

# Gradients are computed by autograd.grad, and put where the optimizer expects them.
model = mlp()
weights = list(model.parameters())
optimizer = torch.optim.SGD(weights, lr=0.1)
train, val = loaders()
for epoch in range(6):
    model.train()
    for x, y in train:
        loss = F.cross_entropy(model(x), y)
        for weight, gradient in zip(weights, torch.autograd.grad(loss, weights)):
            weight.grad = gradient
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
    print(accuracy(model, val))
