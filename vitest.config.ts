import { defineConfig } from 'vitest/config'

const common = { pool: 'forks', environment: 'node' } as const

// The long variants do many times the work of the others
const LONGER = process.env['SLOW'] ? 30 : 1

export default defineConfig({
  test: {
    // A test file waits for other programs more than it computes
    maxWorkers: '100%',
    globalSetup: './test/helpers/nothing-left.ts',
    reporters: ['default', './test/helpers/counting-reporter.ts'],
    projects: [
      {
        test: {
          ...common,
          name: 'unit',
          include: ['test/*.test.ts', 'test/{unit,vectors,property}/**/*.test.ts'],
          testTimeout: LONGER * 30_000,
        },
      },
      {
        test: {
          ...common,
          name: 'integration',
          include: ['test/integration/**/*.test.ts'],
          testTimeout: LONGER * 120_000,
          hookTimeout: LONGER * 120_000,
        },
      },
      {
        test: {
          ...common,
          name: 'e2e',
          include: ['test/e2e/**/*.test.ts'],
          testTimeout: LONGER * 300_000,
          hookTimeout: LONGER * 300_000,
        },
      },
    ],
  },
})
