import { expect, test } from 'vitest'
import { argon2Hasher } from '../../../src/people/adapters/password-hasher.js'

const PASSWORD = 'ten blue bottles, señor'

test('a password is kept as argon2id with the parameters of RFC 9106, and a salt of its own', async () => {
  const hasher = argon2Hasher()
  const [first, second] = await Promise.all([hasher.hash(PASSWORD), hasher.hash(PASSWORD)])
  expect(first).toMatch(/^\$argon2id\$v=19\$m=65536,t=3,p=4\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}$/)
  expect(first).not.toBe(second)
  expect(await hasher.verify(first, PASSWORD)).toBe(true)
  expect(await hasher.verify(second, PASSWORD.normalize('NFD'))).toBe(true)
  expect(await hasher.verify(first, `${PASSWORD} `)).toBe(false)
})

test('nobody has no password, and is compared with one all the same', async () => {
  const hasher = argon2Hasher()
  expect(await hasher.verify(undefined, 'the password of nobody')).toBe(false)
  const known = await hasher.hash(PASSWORD)
  const took = async (hash: string | undefined) => {
    const from = performance.now()
    await hasher.verify(hash, 'some other password')
    return performance.now() - from
  }
  const times = { known: [] as number[], nobody: [] as number[] }
  for (let at = 0; at < 5; at += 1) {
    times.known.push(await took(known))
    times.nobody.push(await took(undefined))
  }
  // the quickest of each: what else runs on the machine only adds
  const ratio = Math.min(...times.nobody) / Math.min(...times.known)
  expect(ratio).toBeGreaterThan(0.4)
  expect(ratio).toBeLessThan(2.5)
})

test('more people than the process can serve are told to come again', async () => {
  const hasher = argon2Hasher()
  const answers = await Promise.allSettled(Array.from({ length: 36 }, () => hasher.hash(PASSWORD)))
  const refused = answers.filter(({ status }) => status === 'rejected')
  expect(refused).toHaveLength(2)
  expect(refused[0]).toMatchObject({ reason: { code: 'RATE_LIMITED', retryAfterSeconds: 1 } })
})

test('a name that nobody has is refused as before once too many people at once have passed', async () => {
  const hasher = argon2Hasher(1)
  // two are worked on, one waits
  const crowd = Array.from({ length: 3 }, () => hasher.hash('correct horse'))
  // turned away, or not, as they come
  await Promise.allSettled([hasher.verify(undefined, 'a guess'), hasher.hash('another')])
  const [hash] = await Promise.all(crowd)
  expect(await hasher.verify(undefined, 'a guess')).toBe(false)
  expect(await hasher.verify(hash, 'a guess')).toBe(false)
  expect(await hasher.verify(hash, 'correct horse')).toBe(true)
})
