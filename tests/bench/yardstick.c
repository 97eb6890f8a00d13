/* Yardstick in C: stores the rows of one database in another, in given batches.
 *
 *   yardstick SOURCE TARGET PLAN CHECKPOINT_ROWS
 *
 * PLAN has a line for each batch and table: "TABLE COLUMNS ROWS", and "commit" after each batch.
 * Rows are taken in the order of their id. They are read before the clock of their batch starts;
 * the clock sees BEGIN, the inserts, COMMIT and the checkpoints. Prints the seconds.
 */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST_TABLES = 16, MOST_COLUMNS = 32, LINE = 4096 };

struct table {
    char name[64];
    int columns;
    sqlite3_stmt *read, *insert;
    sqlite3_value **values; /* of this batch, a row after the other */
    long rows, room;
};

static sqlite3 *source, *target;
static struct table tables[MOST_TABLES];
static int count;

static void check(sqlite3 *database, int code, const char *what) {
    if (code == SQLITE_OK || code == SQLITE_ROW || code == SQLITE_DONE) return;
    fprintf(stderr, "yardstick: %s: %s\n", what, sqlite3_errmsg(database));
    exit(1);
}

static void run(const char *sql) { check(target, sqlite3_exec(target, sql, 0, 0, 0), sql); }

static double now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec + at.tv_nsec / 1e9;
}

static struct table *table_of(const char *name, const char *columns) {
    for (int i = 0; i < count; i++)
        if (!strcmp(tables[i].name, name)) return &tables[i];
    if (count == MOST_TABLES) exit(1);
    struct table *table = &tables[count++];
    snprintf(table->name, sizeof table->name, "%s", name);
    char marks[2 * MOST_COLUMNS + 1] = "?", sql[2 * LINE];
    table->columns = 1;
    for (const char *c = columns; *c; c++)
        if (*c == ',' && ++table->columns <= MOST_COLUMNS) strcat(marks, ",?");
    snprintf(sql, sizeof sql, "SELECT %s FROM %s ORDER BY id", columns, name);
    check(source, sqlite3_prepare_v2(source, sql, -1, &table->read, 0), sql);
    snprintf(sql, sizeof sql, "INSERT INTO %s (%s) VALUES (%s)", name, columns, marks);
    check(target, sqlite3_prepare_v2(target, sql, -1, &table->insert, 0), sql);
    return table;
}

static void take(struct table *table, long rows) {
    if (rows > table->room) {
        table->room = rows;
        table->values = realloc(table->values, rows * table->columns * sizeof *table->values);
    }
    for (long row = 0; row < rows; row++) {
        if (sqlite3_step(table->read) != SQLITE_ROW) check(source, SQLITE_ERROR, "too few rows");
        for (int c = 0; c < table->columns; c++)
            table->values[row * table->columns + c] =
                sqlite3_value_dup(sqlite3_column_value(table->read, c));
    }
    table->rows = rows;
}

static void store(struct table *table) {
    for (long row = 0; row < table->rows; row++) {
        for (int c = 0; c < table->columns; c++)
            sqlite3_bind_value(table->insert, c + 1, table->values[row * table->columns + c]);
        check(target, sqlite3_step(table->insert), table->name);
        sqlite3_reset(table->insert);
    }
}

static void forget(struct table *table) {
    for (long i = 0; i < table->rows * table->columns; i++) sqlite3_value_free(table->values[i]);
    table->rows = 0;
}

int main(int argc, char **argv) {
    if (argc != 5) return 2;
    check(source, sqlite3_open_v2(argv[1], &source, SQLITE_OPEN_READONLY, 0), argv[1]);
    check(target, sqlite3_open(argv[2], &target), argv[2]);
    run("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;"
        "PRAGMA wal_autocheckpoint = 0; PRAGMA cache_size = -32768; PRAGMA temp_store = MEMORY");
    FILE *plan = fopen(argv[3], "r");
    if (!plan) return 1;
    long checkpoint = atol(argv[4]), since = 0, rows;
    double seconds = 0;
    char line[LINE], name[64], columns[LINE];
    while (fgets(line, sizeof line, plan)) {
        if (sscanf(line, "%63s %4095s %ld", name, columns, &rows) == 3) {
            take(table_of(name, columns), rows);
            continue;
        }
        double begin = now();
        if (since >= checkpoint) {
            since = 0;
            run("PRAGMA wal_checkpoint(PASSIVE)");
        }
        run("BEGIN IMMEDIATE");
        for (int i = 0; i < count; i++) store(&tables[i]), since += tables[i].rows;
        run("COMMIT");
        seconds += now() - begin;
        for (int i = 0; i < count; i++) forget(&tables[i]);
    }
    printf("%.6f\n", seconds);
    return 0;
}
