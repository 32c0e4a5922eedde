import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

train, val = loaders()
teacher = mlp()
to = torch.optim.Adam(teacher.parameters(), lr=1e-2)
for x, y in train:
    to.zero_grad()
    F.cross_entropy(teacher(x), y).backward()
    to.step()
teacher.eval()
student = mlp(norm=False)
optimizer = torch.optim.Adam(student.parameters(), lr=1e-2)
for epoch in range(4):
    student.train()
    for x, y in train:
        with torch.no_grad():
            soft = F.softmax(teacher(x) / 2, 1)
        logits = student(x)
        loss = F.cross_entropy(logits, y)
        loss = loss + 4 * F.kl_div(F.log_softmax(logits / 2, 1), soft, reduction="batchmean")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(accuracy(student, val), accuracy(teacher, val))
