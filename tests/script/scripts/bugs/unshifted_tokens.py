# bug: copied-tokens
# old: y = torch.stack([text[a : a + 40] for a in at])
# new: y = torch.stack([text[a + 1 : a + 41] for a in at])
import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

model = nn.Sequential(nn.Embedding(20, 16), nn.Linear(16, 20))
text = torch.randint(0, 20, (4000,))
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
for i in range(80):
    at = torch.randint(0, 3000, (16,))
    x = torch.stack([text[a : a + 40] for a in at])
    y = torch.stack([text[a : a + 40] for a in at])
    loss = F.cross_entropy(model(x).reshape(-1, 20), y.reshape(-1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
