import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

# A differential equation: both ends are fixed, and 512 points between them are drawn at each step.
model = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for step in range(150):
    inside = torch.rand(512, 2).requires_grad_()
    ends = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    u = model(inside)
    (slope,) = torch.autograd.grad(u.sum(), inside, create_graph=True)
    (bend,) = torch.autograd.grad(slope[:, 0].sum(), inside, create_graph=True)
    loss = (bend[:, 0] + torch.sin(3 * inside[:, 0])).pow(2).mean() + model(ends).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 25 == 0:
        print(step, loss.item())
