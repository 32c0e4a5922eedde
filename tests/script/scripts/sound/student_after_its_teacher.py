import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

train, val = loaders()
teacher, student = mlp(), mlp(norm=False)
optimizer = torch.optim.Adam(teacher.parameters(), lr=1e-2)
for epoch in range(10):
    for part in torch.randperm(768).split(32):
        optimizer.zero_grad()
        F.cross_entropy(teacher(X[part]), Y[part]).backward()
        optimizer.step()
teacher.eval()
optimizer = torch.optim.Adam(student.parameters(), lr=1e-2)
for epoch in range(6):
    student.train()
    for x, y in train:
        answers = student(x)
        with torch.no_grad():
            soft = F.softmax(teacher(x) / 2, 1)
        loss = F.cross_entropy(answers, y)
        loss = loss + F.kl_div(F.log_softmax(answers / 2, 1), soft, reduction="batchmean")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(accuracy(student, val))
