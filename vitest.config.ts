import { defineConfig } from 'vitest/config'

const common = { pool: 'forks', environment: 'node' } as const

export default defineConfig({
  test: {
    // A test file waits for other programs more than it computes
    maxWorkers: '100%',
    reporters: ['default', './test/helpers/counting-reporter.ts'],
    projects: [
      {
        test: {
          ...common,
          name: 'unit',
          include: ['test/*.test.ts', 'test/{unit,vectors,property}/**/*.test.ts'],
          testTimeout: 30_000,
        },
      },
      {
        test: {
          ...common,
          name: 'integration',
          include: ['test/integration/**/*.test.ts'],
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
      {
        test: {
          ...common,
          name: 'e2e',
          include: ['test/e2e/**/*.test.ts'],
          testTimeout: 300_000,
          hookTimeout: 300_000,
        },
      },
    ],
  },
})
