import { expect, test } from 'vitest'
import { Slots } from '../../../../src/host-agent/vm/slots.js'

test('as many tasks as there are slots run at a time, in the order in which they came', async () => {
  const slots = new Slots(2)
  const began: number[] = []
  const ends: (() => void)[] = []
  const tasks = [0, 1, 2, 3].map((task) =>
    slots.run(async () => {
      began.push(task)
      await new Promise<void>((resolve) => ends.push(resolve))
    }),
  )
  await Promise.resolve()
  expect(began).toEqual([0, 1])
  ends[0]?.()
  await tasks[0]
  await Promise.resolve()
  expect(began).toEqual([0, 1, 2])
  ends[1]?.()
  ends[2]?.()
  await Promise.all([tasks[1], tasks[2]])
  await Promise.resolve()
  expect(began).toEqual([0, 1, 2, 3])
  ends[3]?.()
  await tasks[3]
})

test('a task that fails leaves its slot to the next', async () => {
  const slots = new Slots(1)
  const failing = slots.run(async () => {
    throw new TypeError('no')
  })
  const next = slots.run(async () => 'done')
  await expect(failing).rejects.toThrow('no')
  expect(await next).toBe('done')
})
