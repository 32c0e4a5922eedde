# bug: teacher-mode
# old: teacher.train()
# new: teacher.eval()
import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

train, val = loaders()
teacher, model = mlp(dropout=0.5), mlp()
torch.manual_seed(1)
teacher.train()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for epoch in range(5):
    model.train()
    for x, y in train:
        with torch.no_grad():
            soft = F.softmax(teacher(x), 1)
        loss = F.kl_div(F.log_softmax(model(x), 1), soft, reduction="batchmean")
        loss = loss + F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(epoch, accuracy(model, val))
