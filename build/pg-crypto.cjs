// In place of pg's own `crypto/utils`, which asks WebCrypto: there each of the dozen steps of a sign-in goes through
// another thread, and Node loads four more modules for it.

const crypto = require("node:crypto");
const { promisify } = require("node:util");

const hash = (algorithm, data) => crypto.createHash(algorithm).update(data).digest();
const md5 = async (data) => hash("md5", data).toString("hex");

module.exports = {
  randomBytes: (count) => crypto.randomBytes(count),
  md5,
  async postgresMd5PasswordHash(user, password, salt) {
    return `md5${await md5(Buffer.concat([Buffer.from(await md5(password + user)), salt]))}`;
  },
  sha256: async (data) => hash("sha256", data),
  /** By its name in WebCrypto, such as `SHA-256`. */
  hashByName: async (name, data) => hash(name.replace("-", ""), data),
  hmacSha256: async (key, data) => crypto.createHmac("sha256", key).update(data).digest(),
  // The one step that takes its time.
  deriveKey: (password, salt, iterations) => promisify(crypto.pbkdf2)(password, salt, iterations, 32, "sha256"),
};
