import torch
import torch.nn.functional as F
from accelerate import Accelerator

from toy import loaders, mlp

accelerator = Accelerator(cpu=True, gradient_accumulation_steps=4)
train, val = loaders(16)
model = mlp()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 200)
model, optimizer, train, val, scheduler = accelerator.prepare(
    model, optimizer, train, val, scheduler
)
for epoch in range(10):
    model.train()
    for x, y in train:
        with accelerator.accumulate(model):
            loss = F.cross_entropy(model(x), y)
            accelerator.backward(loss)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()

    with torch.no_grad():
        print(sum((model(x).argmax(1) == y).sum().item() for x, y in val))
