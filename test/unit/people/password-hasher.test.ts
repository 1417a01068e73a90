import { expect, test } from 'vitest'
import { argon2Hasher } from '../../../src/people/adapters/password-hasher.js'

/** Two are worked on beside those that wait. */
const AT_ONCE = 2
const WAITING = 1

test('a name that nobody has is refused as before once too many people at once have passed', async () => {
  const hasher = argon2Hasher(WAITING)
  const crowd = Array.from({ length: AT_ONCE + WAITING }, () => hasher.hash('correct horse'))
  // turned away, or not, as they come
  await Promise.allSettled([hasher.verify(undefined, 'a guess'), hasher.hash('another')])
  const [hash] = await Promise.all(crowd)
  expect(await hasher.verify(undefined, 'a guess')).toBe(false)
  expect(await hasher.verify(hash, 'a guess')).toBe(false)
  expect(await hasher.verify(hash, 'correct horse')).toBe(true)
})
