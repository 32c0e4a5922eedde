import torch
import torch.nn.functional as F
from torch import nn

from toy import TRAIN, VAL, X, Y, accuracy, loaders, mlp


class LM(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.rnn = nn.Embedding(20, 16), nn.GRU(16, 32, batch_first=True)
        self.head = nn.Linear(32, 20)

    def forward(self, tokens):
        return self.head(self.rnn(self.embed(tokens))[0])


text = torch.randint(0, 20, (4000,))
text[1::2] = (text[::2] + 1) % 20
model = LM()
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: min(1, i / 10))
for i in range(120):
    at = torch.randint(0, 3000, (16,))
    x = torch.stack([text[a : a + 40] for a in at])
    y = torch.stack([text[a + 1 : a + 41] for a in at])
    loss = F.cross_entropy(model(x).reshape(-1, 20), y.reshape(-1))
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    scheduler.step()
print(loss.item())
