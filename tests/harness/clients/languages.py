"""The languages of the project's kernelspecs: what to run in each, and what must come of it.

One table, so that what is checked of one language is checked of all.
"""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Example:
    """A cell and what it shows."""

    code: str
    shows: str
    """What it prints, and the text form of its value."""


@dataclass(frozen=True)
class Failure:
    """A cell that fails, and the error that its user sees."""

    code: str
    name: str
    """`ename` of the error, a regular expression."""
    value: str
    """`evalue`, likewise, to be found somewhere in it."""
    has_traceback: bool = True


@dataclass(frozen=True)
class Language:
    """A kernelspec, and the same things said in its language."""

    kernel: str
    """Name of the kernelspec."""
    name: str
    """`language_info.name` of its kernel."""
    memory_limit: str
    """As a site would limit its kernels' memory: `mem_limit` of the Docker SDK."""
    hello: Example
    """Prints."""
    value: Example
    """Has a value."""
    keep: str
    """Sets the variable `zip_code` to 12345."""
    kept: Example
    """Has its value for a value."""
    forgotten: Failure
    """The same where the variable is not set."""
    failures: tuple[Failure, ...]
    completion: str
    """The beginning of an expression with `zip_code`, the cursor being at its end."""
    complete: str
    incomplete: str
    invalid: str
    prompt: str
    """Asks `who? `, and greets whom the answer names; "" if its kernel asks for no input."""
    plot: str
    """Shows a PNG image."""
    sleep: str
    """Prints, then sleeps for minutes."""
    loop: str
    """Prints, then does nothing for minutes, as busily as it can."""
    interruption: str
    """What is in the error that an interrupt makes of both, a regular expression; "": no error."""
    lines: str
    """Prints the numbers from 0 below COUNT, each at once and on a line of its own, 10 ms apart."""
    flood: str
    """Prints COUNT long lines, each at once, which begin with their numbers from 0, and a blank;
    then creates the file FILE."""
    parameters: str
    """Sets the variables `count` and `name`, as the cell does that papermill looks for."""
    use: str
    """Prints `NAME COUNT` of them, and a line's end."""
    hog: str
    """Takes more memory than `memory_limit`."""
    specifics: tuple[Example, ...] = ()
    """What people use this language for."""


PYTHON = Language(
    kernel="python_docker",
    name="python",
    memory_limit="300m",
    hello=Example("print('héllo')", "héllo\n"),
    value=Example("6 * 7", "42"),
    keep="zip_code = 12345",
    kept=Example("zip_code", "12345"),
    forgotten=Failure("zip_code", "NameError", "'zip_code' is not defined"),
    failures=(
        Failure("1 / 0", "ZeroDivisionError", "division by zero"),
        Failure("1 +* 2", "SyntaxError", "invalid syntax"),
    ),
    completion="zip_c",
    complete="x = 1",
    incomplete="for i in range(3):",
    invalid="1 +* 2",
    prompt="print('hello', input('who? '))",
    plot="import matplotlib.pyplot as plt\nplt.plot([1, 2, 3])\nplt.show()",
    sleep="import time\nprint('on')\ntime.sleep(300)",
    loop="print('on')\nwhile True:\n    pass",
    interruption="KeyboardInterrupt",
    lines=("import time\nfor n in range(COUNT):\n    print(n, flush=True)\n    time.sleep(0.01)"),
    flood=(
        "import pathlib\n"
        "for n in range(COUNT):\n    print(n, 'x' * 10_000, flush=True)\n"
        "pathlib.Path('FILE').touch()"
    ),
    parameters="count = 1\nname = 'unknown'",
    use="print(name, count)",
    hog="hog = b'x' * (2 << 30)",
)

TENSORFLOW = replace(
    PYTHON,
    kernel="python_tf_docker",
    memory_limit="1500m",
    hog="hog = b'x' * (4 << 30)",
    specifics=(
        Example(
            "import tensorflow as tf\n"
            "x = tf.constant([[0.0], [1.0], [2.0], [3.0]])\n"
            "model = tf.keras.Sequential([tf.keras.Input((1,)), tf.keras.layers.Dense(1)])\n"
            "model.compile(tf.keras.optimizers.SGD(0.1), 'mse')\n"
            "history = model.fit(x, 2 * x + 1, epochs=30, verbose=0)\n"
            "loss = history.history['loss']\n"
            "print(loss[-1] < loss[0] / 10)",
            "True\n",
        ),
    ),
)

R = Language(
    kernel="R_docker",
    name="R",
    memory_limit="400m",
    hello=Example("cat('héllo\\n')", "héllo\n"),
    value=Example("6 * 7", "[1] 42"),
    keep="zip_code <- 12345",
    kept=Example("zip_code", "[1] 12345"),
    forgotten=Failure("zip_code", "ERROR", "object 'zip_code' not found"),
    failures=(
        Failure("f <- function() stop('no such luck')\nf()", "ERROR", "in f.*no such luck"),
        Failure("1 +* 2", "ERROR", r"unexpected '\*'"),
    ),
    completion="zip_c",
    complete="x <- 1",
    incomplete="for (i in 1:3) {",
    invalid="1 +* 2",
    prompt="cat('hello', readline('who? '))",
    plot="plot(1:3, type = 'l')",
    sleep="cat('on\\n')\nflush.console()\nSys.sleep(300)",
    loop="cat('on\\n')\nwhile (TRUE) {}",
    interruption="",
    # Without the flush what a loop prints comes at its end: reference of IRkernel, issue 3.
    lines="for (n in seq(0, COUNT - 1)) {\n    cat(n, '\\n', sep = '')\n    flush.console()\n"
    "    Sys.sleep(0.01)\n}",
    flood=(
        "for (n in seq(0, COUNT - 1)) {\n    cat(n, ' ', strrep('x', 10000), '\\n', sep = '')\n"
        "    flush.console()\n}\ninvisible(file.create('FILE'))"
    ),
    parameters="count <- 1\nname <- 'unknown'",
    use="cat(name, count, '\\n')",
    hog="hog <- numeric(2^28)",
    specifics=(
        Example("message('to stderr')\nsummary(c(1, 2, 3))[['Mean']]", "[1] 2"),
        Example("library(stats)\nround(coef(lm(dist ~ speed, cars))[['speed']], 2)", "[1] 3.93"),
    ),
)

SCALA = Language(
    kernel="scala_docker",
    name="scala",
    memory_limit="1500m",
    hello=Example('println("héllo")', "héllo\n"),
    value=Example("6 * 7", "42"),
    keep="val zip_code = 12345",
    kept=Example("zip_code", "12345"),
    forgotten=Failure("zip_code", ".*", "not found: value zip_code", has_traceback=False),
    failures=(
        Failure("1 / 0", "java.lang.ArithmeticException", "/ by zero"),
        Failure('val text: Int = "no number"', ".*", "type mismatch", has_traceback=False),
    ),
    completion="zip_c",
    complete="val x = 1",
    incomplete="for (i <- 1 to 3) {",
    invalid="val = 3",
    prompt="",  # whatever reads is at the end of its input
    plot=(
        "import java.io.ByteArrayOutputStream\n"
        "import java.awt.image.BufferedImage\n"
        "val picture = new BufferedImage(40, 30, BufferedImage.TYPE_INT_RGB)\n"
        "val png = new ByteArrayOutputStream\n"
        'javax.imageio.ImageIO.write(picture, "png", png)\n'
        "val encoded = java.util.Base64.getEncoder.encodeToString(png.toByteArray)\n"
        'kernel.display.content("image/png", encoded)'
    ),
    sleep='println("on")\nThread.sleep(300000)',
    loop='println("on")\nwhile (true) {}',
    interruption="InterruptedException|ThreadDeath",
    lines="for (n <- 0 until COUNT) { println(n); Thread.sleep(10) }",
    flood=(
        'for (n <- 0 until COUNT) println(s"$n " + "x" * 10000)\n'
        'new java.io.File("FILE").createNewFile()'
    ),
    parameters='val count = 1\nval name = "unknown"',
    use='println(s"$name $count")',
    # What is on the heap of the JVM is limited by the JVM itself.
    hog=(
        'val field = classOf[sun.misc.Unsafe].getDeclaredField("theUnsafe")\n'
        "field.setAccessible(true)\n"
        "val memory = field.get(null).asInstanceOf[sun.misc.Unsafe]\n"
        "memory.setMemory(memory.allocateMemory(4L << 30), 4L << 30, 1)"
    ),
    specifics=(
        Example(
            "case class Point(x: Int, y: Int)\nList(Point(1, 2)).map(_.y).sum",
            "defined class Point\n2",
        ),
        Example("org.apache.spark.sql.SparkSession.getDefaultSession.isEmpty", "true"),
        Example("sc.parallelize(1 to 10).sum", "55.0"),
        # messages of two types in turn
        Example(
            "for (n <- 0 until 100) {\n"
            "    kernel.stream.sendAll(n.toString)\n"
            '    kernel.display.content("text/plain", ";")\n'
            "}",
            "".join(f"{n};" for n in range(100)),
        ),
        # a line's end that is sent alone
        Example('print("a")\nThread.sleep(200)\nprintln()\nThread.sleep(200)\nprint("b")', "a\nb"),
        # characters of two bytes, over many messages
        Example('print("é" * 1000000)', "é" * 1000000),
    ),
)

LANGUAGES = (PYTHON, R, SCALA, TENSORFLOW)


def culled_kernel(language: Language) -> str:
    """Return the kernelspec whose kernels are culled after a moment without use."""
    return f"{language.kernel}_culled"
