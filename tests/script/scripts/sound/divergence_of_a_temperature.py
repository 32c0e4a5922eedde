import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp

HEAT = 6.0
train, val = loaders()
teacher, student = mlp(norm=False).eval(), mlp(norm=False)
teacher.requires_grad_(False)
optimizer = torch.optim.SGD(student.parameters(), lr=0.01)
for epoch in range(4):
    student.train()
    for x, y in train:
        answers = student(x)
        soft = F.softmax(teacher(x) / HEAT, 1)
        apart = F.kl_div(F.log_softmax(answers / HEAT, 1), soft, reduction="sum")
        loss = F.cross_entropy(answers, y) + apart * HEAT**2 / len(x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(epoch, accuracy(student, val))
