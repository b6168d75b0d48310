import tope = require("tope");
import testing = require("tope/testing");

const fake = new testing.Fake();
fake.add("acme", { tokens: 1_000 });
const client = new tope.Client(fake, { tenant: "acme" });
void client
  .hold(100, (hold) => hold.add({ tokens: 7 }))
  .then(() => client.hold(1_000))
  .catch((error: unknown) => {
    if (!(error instanceof tope.errors.QuotaExceeded && error.remaining === 993)) {
      throw error;
    }
    return client.close();
  });
